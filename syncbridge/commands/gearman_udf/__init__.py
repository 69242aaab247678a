"""The UDF library on its way into a server: built, looked for, put in, tried. What `udf` and `check` have in common."""
