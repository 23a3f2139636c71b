"""The command line. main.py lists the commands and imports each only when it is run."""
