"""What is called through ErlPort: the least that a function can do."""


def echo(data):
    return data


def size(data):
    return len(data)
