from almost_data.generation import SharedMemory


class Holder:
    def __init__(self, name: str, closed: list[str]) -> None:
        self.name, self.closed = name, closed

    def close(self) -> None:
        self.closed.append(self.name)


def test_only_another_user_closes_the_holder() -> None:
    closed: list[str] = []
    engine, scorer = Holder("engine", closed), Holder("scorer", closed)
    memory = SharedMemory()
    memory.acquire(engine)
    memory.acquire(engine)
    assert closed == []
    memory.acquire(scorer)
    memory.acquire(scorer)
    assert closed == ["engine"]
    memory.acquire(engine)
    assert closed == ["engine", "scorer"]
