"""What lets frameworks for agents keep their data here: one module each, imported only by name.

Each class takes an open `Persistence` first. A module needs its framework, and nothing else of the
package needs the module.
"""
