"""Eight small programs of the support desk. Each has one fault, which its docstring does not tell.

Main path: read what a program should do, run it, find out what it does; `hunting` judges a repaired one.

| module | has | which should |
| --- | --- | --- |
| help_line | HelpLine | ask a cheap model, and a better one only where it is needed |
| few_shots | prepare | give a program demos, and keep the rest of the rows to measure it |
| inbox | Inbox | answer many customers at once, each by name |
| order_board | OrderBoard | show orders without looking each up again and again |
| parcel_watch | ParcelWatch | tell customers where their parcels are |
| replies | Replies | answer from the help centre, in full |
| paybacks | pay_back | pay money back once, and write to the customer |
| scorecard | score | say how good a program is |
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
