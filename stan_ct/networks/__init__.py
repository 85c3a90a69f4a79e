"""Generator, discriminator and losses of the paper (Fig. 1, Eqs. 1-6), in Keras layers and keras.ops only."""
