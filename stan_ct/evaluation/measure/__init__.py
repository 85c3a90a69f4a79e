"""Series, patches and regions -> measured rows."""
