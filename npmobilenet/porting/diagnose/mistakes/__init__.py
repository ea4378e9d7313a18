"""Known mistakes of MobileNet ports, tried on wrong layers.

layer_mistakes      all mistakes inside layers: window_, weight_, activation_ and wiring_mistakes
input_mistakes      mistakes before the first layer
precision_mistakes  half precision
fitted_mistakes     mistakes with a number or an order to find
"""
