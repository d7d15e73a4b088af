"""What both pages are built of: panels with a query, a unit and a sentence, on Grafana's grid of 24 columns."""

import itertools

from grafana_foundation_sdk.builders import bargauge, common, stat, table, timeseries
from grafana_foundation_sdk.builders import dashboard as board
from grafana_foundation_sdk.builders import prometheus as query
from grafana_foundation_sdk.models import common as shown
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
RUN_PAGE = "strop-run"
OVERVIEW_PAGE = "strop-overview"
LETTERS = "ABCDEFGH"
PLAIN = ((None, "text"),)

Query = tuple[str, str]
"""PromQL and its legend."""


def targets(panel, queries: tuple[Query, ...], *, instant: bool = False, as_table: bool = False):
    """The panel with its queries, in their order."""
    for letter, (expression, legend) in zip(LETTERS, queries, strict=False):
        target = query.Dataquery().ref_id(letter).expr(expression).legend_format(legend).datasource(SOURCE)
        target = target.instant() if instant else target.range()
        panel = panel.with_target(target.format(PromQueryFormat.TABLE) if as_table else target)
    return panel.datasource(SOURCE)


def described(panel, title: str, about: str, unit: str, width: int, height: int):
    """The panel with its words and its size."""
    return panel.title(title).description(about).unit(unit).span(width).height(height)


def figure(title: str, about: str, *queries: Query, unit: str = "short", width: int = 4, named=False, steps=PLAIN):
    """One number, coloured from the steps' values on; or, when it is `named`, its legend."""
    panel = described(stat.Panel(), title, about, unit, width, 4).no_value("-").thresholds(thresholds(steps))
    coloured = shown.BigValueColorMode.VALUE if len(steps) > 1 else shown.BigValueColorMode.NONE
    panel = panel.color_mode(coloured).graph_mode(shown.BigValueGraphMode.NONE).reduce_options(newest())
    panel = panel.text_mode(shown.BigValueTextMode.NAME if named else shown.BigValueTextMode.VALUE)
    return targets(panel, queries, instant=True)


def lines(title: str, about: str, *queries: Query, unit: str = "short", width: int = 8, stacked: bool = False):
    """Curves over time; stacked where the sum means something."""
    panel = described(timeseries.Panel(), title, about, unit, width, 8).fill_opacity(25 if stacked else 5)
    panel = panel.tooltip(common.VizTooltipOptions().mode(shown.TooltipDisplayMode.MULTI)).span_nulls(False)
    legend = common.VizLegendOptions().display_mode(shown.LegendDisplayMode.LIST).show_legend(True)
    panel = panel.legend(legend.placement(shown.LegendPlacement.BOTTOM))
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(shown.StackingMode.NORMAL).group("A"))
    return targets(panel, queries)


def bars(title: str, about: str, *queries: Query, unit: str = "short", width: int = 8):
    """One bar for each series, of the whole time that is looked at."""
    panel = described(bargauge.Panel(), title, about, unit, width, 8).min(0).no_value("none")
    panel = panel.orientation(shown.VizOrientation.HORIZONTAL).display_mode(shown.BarGaugeDisplayMode.BASIC)
    panel = panel.reduce_options(newest())
    return targets(panel, queries, instant=True)


def listing(title: str, about: str, *queries: Query, hidden: tuple[str, ...] = (), link: str = "", width: int = 24):
    """A table of series; `hidden` labels are left out, the column `name` leads to a run's page."""
    panel = described(table.Panel(), title, about, "short", width, 9)
    left_out = {"excludeByName": dict.fromkeys(("Time", "Value", "__name__", *hidden), True)}
    panel = panel.with_transformation(model.DataTransformerConfig(id_val="organize", options=left_out))
    if link:
        value = [{"title": "this run", "url": link}]
        panel = panel.override_by_name("name", [model.DynamicConfigValue(id_val="links", value=value)])
    return targets(panel, queries, instant=True, as_table=True)


def newest():
    """Of each series the last value."""
    return common.ReduceDataOptions().calcs(["lastNotNull"]).values(False)


def thresholds(steps):
    """Colours from a value on; the first has no lower bound."""
    made = [model.Threshold(value=value, color=colour) for value, colour in steps]
    return board.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(made)


def page(uid: str, title: str, about: str):
    """An empty page that asks for its Prometheus."""
    source = board.DatasourceVariable("datasource").label("Prometheus").type("prometheus")
    made = board.Dashboard(title).uid(uid).description(about).tags(["strop"]).editable()
    return made.timezone("browser").refresh("1m").tooltip(model.DashboardCursorSync.CROSSHAIR).with_variable(source)


def filled(made, rows):
    """The page with its rows of panels, numbered: Grafana tells panels apart by that."""
    numbers = itertools.count(1)
    for title, panels in rows:
        made = made.with_row(board.Row(title).id(next(numbers)))
        for panel in panels:
            made = made.with_panel(panel.id(next(numbers)))
    return made


def chosen(text: str, value: str):
    """What a variable is at first."""
    return model.VariableOption(selected=True, text=text, value=value)


def labels(name: str, label: str, of: str):
    """A variable whose choices are a label's values."""
    refreshed = model.VariableRefresh.ON_TIME_RANGE_CHANGED
    asked = {"qryType": 1, "query": f"label_values({of}, {name})", "refId": "variable"}
    made = board.QueryVariable(name).label(label).datasource(SOURCE).query(asked).refresh(refreshed)
    return made.sort(model.VariableSort.ALPHABETICAL_ASC)


def quantile(share: float, metric: str, by: str = "", window: str = "$window") -> str:
    """PromQL of a quantile of a histogram, of what was observed within the window."""
    grouped = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, sum by ({grouped}) (increase({metric}_bucket[{window}])))"
