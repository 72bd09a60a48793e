"""How the study is run: notebooks, profiles, sources of data, many machines, checks, releases."""
