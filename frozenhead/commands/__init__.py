"""What each command does, as one function from options to a plain result. The command line is a skin over these.

Import the module of the command that is wanted: each loads only what it needs.
"""
