"""What may be a password stays out of what others see."""

from mac_ray.passwords import has_passwords, without_passwords, without_passwords_in

SECRET = "postgresql+psycopg2://user:p%40ss@host:5432/mlflow?sslpassword=other"


def test_passwords_are_left_out_of_any_text() -> None:
    secret = (
        "postgresql://h/db?user=u&password=one",
        "http://two@host",
        "postgresql://u:th/ree@h/db",
        "http://u:fo@ur@h",
    )
    text = f"python a.py tracking.uri={SECRET} 'search.storage={secret[0]}' {' '.join(secret[1:])}"
    text += " http://host:5000/x a=b@c"
    assert without_passwords(text) == (
        "python a.py tracking.uri=postgresql+psycopg2://***@host:5432/mlflow 'search.storage=postgresql://h/db' "
        "http://***@host postgresql://***@h/db http://***@h http://host:5000/x a=b@c"
    )


def test_passwords_are_left_out_of_values_and_nothing_else_is() -> None:
    given = {
        "root": "s3://k:sesame@b/c",
        "mix": [0.5, None, True],
        "more": {"path": "/a?b@c"},
        "of": ("x", 1),
    }
    kept = {"root": "s3://***@b/c", "mix": [0.5, None, True], "more": {"path": "/a?b@c"}, "of": ["x", 1]}
    assert without_passwords_in(given) == kept
    assert has_passwords(str(given))
    assert not has_passwords("root: s3://b/c")
