"""Sensible settings for somebody's own traffic: a small declared space, searched by plays, told as a diff."""
