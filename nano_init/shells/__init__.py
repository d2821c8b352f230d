"""Environment changes as data: how to enter, how to leave, and how each shell spells it.

change.py       one variable's change, and the names that nano-init may change
state.py        all changes of a shell as one variable, NANO_INIT_STATE
transition.py   what to change to enter a plan, or to leave it (pure)
render.py       a transition as code for one shell: posix.py fish.py csh.py powershell.py
"""
