"""Doors: they turn what a protocol brings into calls on `chainfire.api.table`, and never decide."""
