"""The interactive views of the notebooks, one file per lab; nothing is imported until it is asked for."""
