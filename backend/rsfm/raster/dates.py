"""The date of a raster, in the words of files and of events: only as much of it as is known."""

from rsfm.raster.collection import Entry

YEAR, MONTH, DAY, SECOND = 4, 7, 10, 19


def known_date(entry: Entry) -> str:
    """Return the date in ISO 8601, in UTC, cut to what is known of it: "2015-07-11T10:23:00", "2015-07-11", "2015"."""
    if entry.date is None:
        return ""
    if not entry.month_known:
        return entry.date[:YEAR]
    return entry.date[: SECOND if entry.hour_known else DAY]


def date_tags(entry: Entry) -> dict[str, str]:
    """Return the tags that tell GDAL's users, and `collect`, when a raster was taken; none where nobody knows."""
    date = known_date(entry)
    if not date:
        return {}
    moment = (entry.date or "")[:SECOND].replace("-", ":").replace("T", " ")
    return {"ACQUISITIONDATETIME": date} | ({"TIFFTAG_DATETIME": moment} if len(date) > YEAR else {})
