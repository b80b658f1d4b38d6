from .erased_customer import Places, erasable

EXERCISES: tuple[str, ...]

__all__ = ["Places", "erasable"]
