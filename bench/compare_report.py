"""Tables and plots of bench/compare's results.

Results are {"sessions": [{"machine", "seconds", "library", "apart", "others"}], "runs": [{"row", "arm",
"session", "round", metric: value}], "failures": {"row/arm": why}, "absent": {name: why}}. A ratio
compares an arm only with runs of the same sessions, so that merged files mix no two machines' moods.
"""

import os
import random
import shutil
import statistics
import subprocess

from compare_rows import ARMS, ROWS

RESAMPLES = 2000
QUIET = 0.1  # of one core, used by others


def quartiles(values):
    if len(values) < 4:
        return min(values), max(values)
    low, _, high = statistics.quantiles(values, n=4)
    return low, high


def ratio_interval(values, base):
    """95 % bootstrap interval of the ratio of medians."""
    if len(values) < 3 or len(base) < 3:
        return None
    draw = random.Random(1)
    ratios = sorted(statistics.median(draw.choices(values, k=len(values))) /
                    statistics.median(draw.choices(base, k=len(base))) for _ in range(RESAMPLES))
    return ratios[int(RESAMPLES * 0.025)], ratios[int(RESAMPLES * 0.975)]


def verdict(metric, ratio, interval, factor):
    reached = ratio <= factor if metric.less_is_better else ratio >= factor
    text = "reached" if reached else "MISSED"
    if interval and interval[0] < factor < interval[1]:
        text += " (interval holds the goal)"
    return text


def lines_of(results):
    """One dictionary for each row, metric, arm that has runs, and arm that it is compared with."""
    found = []
    for row in ROWS:
        runs = [run for run in results["runs"] if run["row"] == row.name]
        for metric in row.metrics:
            for arm in row.arms:
                mine = [run for run in runs if run["arm"] == arm]
                if mine:
                    lines = [line_of(row, metric, arm, base, mine, runs)
                             for base in metric.bases(row, arm)]
                    found += [line for i, line in enumerate(lines) if i == 0 or "ratio" in line]
    return found


def line_of(row, metric, arm, compared, mine, runs):
    values = [run[metric.key] for run in mine]
    base_arm, factor = compared
    sessions = {run["session"] for run in mine}
    base = [run[metric.key] for run in runs if run["arm"] == base_arm and run["session"] in sessions]
    line = {"row": row.name, "title": row.title, "metric": metric.title, "arm": arm,
            "runs": len(values), "median": statistics.median(values),
            "quartiles": quartiles(values), "base": base_arm, "goal": factor}
    if base and arm != base_arm and statistics.median(base) > 0:
        line["base_median"] = statistics.median(base)
        line["ratio"] = line["median"] / line["base_median"]
        line["interval"] = ratio_interval(values, base)
        if factor is not None:
            line["less_is_better"] = metric.less_is_better
            line["verdict"] = verdict(metric, line["ratio"], line["interval"], factor)
    return line


def number(value):
    if value >= 10000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def cells_of(line):
    low, high = line["quartiles"]
    ratio, goal = "", ""
    if "ratio" in line:
        ratio = f"{line['ratio']:.2f}"
        if line["interval"]:
            ratio += " [{:.2f}, {:.2f}]".format(*line["interval"])
        ratio += f" of {line['base']} {number(line['base_median'])}"
    if "verdict" in line:
        goal = f"{'<=' if line['less_is_better'] else '>='} {line['goal']:g}: {line['verdict']}"
    return [line["row"], line["metric"], line["arm"], number(line["median"]),
            f"{number(low)} to {number(high)}", ratio, goal]


def label(line):
    return line["arm"] + (f" of {line['base']}" if line["base"] != "kernel" else "")


HEAD = ["row", "unit", "arm", "median", "quartiles", "ratio [95 %]", "goal"]


def print_table(results):
    rows = [cells_of(line) for line in lines_of(results)]
    widths = [max(len(row[i]) for row in [HEAD, *rows]) for i in range(len(HEAD))]
    previous = None
    for row in [HEAD, *rows]:
        if previous is not None and row[0] != previous:
            print()
        previous = row[0]
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def print_goals(results):
    """A table in Markdown of what has a goal; the CPU's ratio stands beside the first figure."""
    lines = lines_of(results)
    cpu = {(line["row"], line["arm"]): line for line in lines
           if line["metric"].startswith("CPU") and line["base"] == "kernel" and "ratio" in line}
    print("| work | stack | unit | median | against | ratio [95 %] | goal | | CPU, goal <= 1 |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for line in lines:
        if "verdict" not in line or line["metric"].startswith("CPU"):
            continue
        low, high = line["interval"] or (line["ratio"], line["ratio"])
        beside = cpu.pop((line["row"], line["arm"]), None)
        beside = f"{beside['ratio']:.2f}" if beside else ""
        print(f"| {line['row']} | {line['arm']} | {line['metric']} | {number(line['median'])} | "
              f"{line['base']} {number(line['base_median'])} | "
              f"{line['ratio']:.2f} [{low:.2f}, {high:.2f}] | "
              f"{'<=' if line['less_is_better'] else '>='} {line['goal']:g} | "
              f"{line['verdict'].split()[0]} | {beside} |")


def print_around(results):
    """What the table needs to be believed: machine, length, libraries, disturbance, what is missing."""
    asked = "".join(f" --{name}" for name in ("apart", "pages")
                    if any(session[name] for session in results["sessions"]))
    print(f"any row again: bench/compare{asked} --only ROW[/ARM] --rounds N --seconds S")
    for machine in sorted({session["machine"] for session in results["sessions"]}):
        print(f"machine: {machine}")
    for index, session in enumerate(results["sessions"]):
        rounds = [run["round"] for run in results["runs"] if run["session"] == index]
        print(f"session {index + 1}: {max(rounds, default=-1) + 1} rounds of {session['seconds']:g} s "
              f"after {session['warmup']:g} s, {'each end on half of the cores, ' * session['apart']}"
              f"library {session['library']}, before a run others used "
              f"{statistics.median(session['others'] or [0]):.2f} cores in the median, "
              f"{max(session['others'], default=0):.2f} at the most")
    if any(statistics.median(session["others"] or [0]) > QUIET for session in results["sessions"]):
        print("The machine was busy with other work: these figures prove nothing.")
    if len({session["library"] for session in results["sessions"]}) > 1:
        print("The sessions measured different builds of the library.")
    for name, why in sorted(results["absent"].items()):
        print(f"absent: {name}: {why}")
    for cell, why in sorted(results["failures"].items()):
        print(f"failed: {cell}: {why}")


def merge(parts):
    merged = {"sessions": [], "runs": [], "failures": {}, "absent": {}}
    for part in parts:
        offset = len(merged["sessions"])
        merged["sessions"] += part["sessions"]
        merged["runs"] += [{**run, "session": run["session"] + offset} for run in part["runs"]]
        merged["failures"].update(part["failures"])
        merged["absent"].update(part["absent"])
    return merged


def plot(results, directory):
    """One SVG a metric: ratios to the kernel with their intervals; needs gnuplot."""
    if shutil.which("gnuplot") is None:
        print("absent: plots: gnuplot-nox is not installed")
        return
    os.makedirs(directory, exist_ok=True)
    by_metric = {}
    for line in lines_of(results):
        if "ratio" in line:
            by_metric.setdefault(line["metric"], []).append(line)
    for metric, lines in by_metric.items():
        name = "".join(c if c.isalnum() else "-" for c in metric)
        data = []
        for index, line in enumerate(lines):
            low, high = line["interval"] or (line["ratio"], line["ratio"])
            data.append(f'{index} "{line["row"]} {label(line)}" {line["ratio"]} {low} {high} '
                        f'{line["goal"] or "NaN"}')
        script = f"""set terminal svg size {max(500, 200 + 26 * len(lines))},600 background "white"
set output "{directory}/{name}.svg"
set title "{metric}: ratio to the arm compared with"
set logscale y
set grid y
set xrange [-1:{len(lines)}]
set xtics rotate by -60 noenhanced
set style fill solid 0.5
set boxwidth 0.6
set bmargin 12
$data << END
{os.linesep.join(data)}
END
plot $data using 1:3:xtic(2) with boxes notitle, $data using 1:3:4:5 with yerrorbars notitle, \\
  $data using 1:6 with points pointtype 2 title "goal", 1 with lines notitle
"""
        subprocess.run(["gnuplot"], input=script, text=True, check=True)
        print(f"plot: {directory}/{name}.svg")


def list_rows():
    for row in ROWS:
        print(f"{row.name:16} {row.title}")
        print(f"{'':16} {' '.join(row.arms)}")
    print()
    for arm, what in ARMS.items():
        print(f"{arm:20} {what}")
