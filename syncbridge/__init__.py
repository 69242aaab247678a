"""syncbridge keeps Redis a faithful mirror of chosen MySQL/MariaDB tables.

Data takes one way through the house: capture -> dispatch -> sinks. The three stages import the core modules
of this package and never each other; `syncbridge.pipeline` wires them. ARCHITECTURE.md has the map.
"""

__version__ = "0.1.0"
