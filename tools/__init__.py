"""Scripts for people who build and look at Quartier; tests import them, the installed package does not hold them."""
