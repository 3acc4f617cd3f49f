"""A package, and not a namespace: `opensimplex` installs a package of this name, which child processes would find."""
