"""Classes with which agent frameworks keep their data here: one module for each framework.

Each class takes an open `Persistence` first. A module needs its framework, and no other module of
the package imports it.
"""
