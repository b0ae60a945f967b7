"""placeholder"""


class Forks:
    def close(self):
        pass
