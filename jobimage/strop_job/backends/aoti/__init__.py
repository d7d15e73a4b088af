"""Parts of the Inductor backend: the package that AOTInductor writes, how it is built, and what it really runs."""
