"""Files of trades in several vendors' layouts, with rows that are refused and rows that are filtered."""

from __future__ import annotations

START = 1_700_000_000
DAY = 86_400
NS = 1_000_000_000


def k2_file(number: int, rows: int = 40) -> tuple[bytes, dict[str, str]]:
    """Two days, conditions, a column that becomes an attribute; every seventh row is refused."""
    lines = ["ts_event_ns,symbol,venue,price,size,trade_id,sequence,conditions,note"]
    for n in range(rows):
        price = "bad" if n % 7 == 6 else f"{100 + n % 9}.{n % 100:02}"
        time = (START + number + n % 2 * DAY) * NS + n
        lines.append(f"{time},K{n % 5},XTST,{price},{1 + n % 5},{number}-{n},{n},A B,n{n}")
    return "\n".join([*lines, ""]).encode(), {"layout": "k2"}


def databento_file(number: int, rows: int = 40) -> tuple[bytes, dict[str, str]]:
    """Integers that count 1e-9; every third row is no trade and filtered."""
    lines = [
        "ts_recv,ts_event,rtype,publisher_id,instrument_id,action,side,depth,price,size,flags,ts_in_delta,"
        "sequence,symbol"
    ]
    for n in range(rows):
        time = (START + number) * NS + n
        action = "C" if n % 3 == 2 else "T"
        lines.append(f"{time + 5},{time},0,2,{n % 3},{action},B,0,{(150 + n) * NS},{n + 1},0,7,{n},D{n % 3}")
    return "\n".join([*lines, ""]).encode(), {"layout": "databento-trades", "venue": "XDB"}


def tardis_file(number: int, rows: int = 40) -> tuple[bytes, dict[str, str]]:
    """Microseconds, several exchanges."""
    lines = ["exchange,symbol,timestamp,local_timestamp,id,side,price,amount"]
    for n in range(rows):
        time = (START + number + n % 2 * DAY) * 1_000_000 + n
        lines.append(f"ex{n % 4},T{n % 6},{time},{time + 3},{number}{n},buy,{200 + n}.5,0.{n + 1}")
    return "\n".join([*lines, ""]).encode(), {"layout": "tardis-trades"}


LAYOUTS = (k2_file, databento_file, tardis_file)


def file_of(number: int) -> tuple[bytes, dict[str, str]]:
    """The file `number`, of the layouts in rotation, and the parameters of its upload."""
    return LAYOUTS[number % len(LAYOUTS)](number)
