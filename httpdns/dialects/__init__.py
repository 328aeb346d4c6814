"""One file an API family: how its requests are read and its replies are written."""
