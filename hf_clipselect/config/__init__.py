"""Which settings there are: flags, keyword arguments and the YAML file of `--config`. No torch here."""
