"""Training the generator and the discriminator against each other."""
