"""The predictions of Meulemans 2019, sections 6.4 to 6.9, one module each; run by chapter6.py."""
