"""Fault points: a node, its workers and its host are killed, and the disk refuses, at every operation on stored files.

Independent of how things are stored: operations on the data directory are counted below the processes (`breaker`), what
is promised is asked over the wire (`host`, `conversations`), and each point is tried in turn (`trial`).
"""
