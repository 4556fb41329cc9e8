"""The other policies of the field: ordinary client code around the same world and the same wishes.

`rules` are their decisions, each from its publication; `line` is where things wait; `guarded` puts the rules of one
policy around one dependency; `service` takes runs in and carries them out; `field` says which policy is made of what.
"""
