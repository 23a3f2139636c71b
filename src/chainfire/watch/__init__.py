"""Who watches what, and what each still has to be told. Pure: no loop, no clock, no socket."""
