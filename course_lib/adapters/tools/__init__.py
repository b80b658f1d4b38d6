"""Tools: functions handed to a model, with limits on what it can do with them.

`limited`, `LimitedTool`: a function as a tool, limited in time, output and calls (lesson 01, part 4)
`ToolRefused`: what a tool raises to say no (part 4; exercise 1.5)
`ToolError`: the one line that the model then reads
`calculator`, `calculate`: arithmetic without `eval` (part 5)
`text_tools`: extract and cut (part 5)
`validator`, `validate`: is an IBAN, e-mail address, order, date, phone number well-formed (part 5)
`serve`, `ToolServer`, `tools_from`, `ToolServerError`: tools over the Model Context Protocol (part 5)
`Guard`: after text of others was read, effects need a person's yes: prompt injection (part 5)
`as_data`, `neutralise`: what makes such text less harmful
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
