"""The commands, one module each, imported when it is typed.

Belongs here: a command's options and the few lines that call what does the work.
Never: work that another command needs.
"""
