-- Reads a model at one moment, so that the etags belong to the versions beside them. Returns nothing if it is not there.
return exists(counter) and summary()
