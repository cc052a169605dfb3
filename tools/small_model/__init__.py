"""The small model: how its parts are made, put together and measured."""
