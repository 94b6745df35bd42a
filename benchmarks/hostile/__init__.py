"Inputs that nobody would make on purpose, and the doors of the package that they are tried at; see `hostile_inputs.py`."
