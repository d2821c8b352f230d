"""Hide pandas from a program that a test starts: Keras imports it wherever it is installed.

The three take a third of the time of `import keras`, and no such program uses them.
"""

raise ModuleNotFoundError("pandas is hidden by tests/lean_imports", name="pandas")
