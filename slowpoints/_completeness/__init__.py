"""How complete a set of points is: `degree`, `coverage`, and `search_until`, which goes on."""
