"""The tests. Each cites the statement (`M…`, `S…`, `F…`) that it holds."""
