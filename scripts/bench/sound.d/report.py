"""From the scores of calls to figures of cells; the table on the terminal, docs/sound.md and its plots."""

import math
import pathlib

from calls import CELLS

DOCS = pathlib.Path(__file__).parents[3] / "docs"
LATE = 0.005       # share of missed wake-ups from which a box was no fair network
CROWDED = 0.2      # PESQ that one of many calls may have less than one alone
UNSTEADY = 15.0    # ms off the beat, at the 99th percentile, from which a phone was kept from its work

# The median PESQ that Ringtrue is to reach.
WANTED = {"clean": 4.45, "random-5": 4.25, "random-10": 4.0, "random-20": 3.6, "random-30": 2.9,
          "burst-10": 3.2, "burst-20": 2.6, "g711-clean": 3.85, "g711-10": 2.9, "g711-20": 2.5}
# Measured elsewhere, with other speech: marks to compare with, not figures of this run.
ELSEWHERE = {
    "pjsua 2.17": {"clean": 4.40, "random-5": 3.82, "random-10": 3.43, "random-20": 2.70, "random-30": 1.79,
                   "burst-10": 2.46, "burst-20": 1.65, "g711-10": 2.45, "g711-20": 2.12},
    "Chromium": {"clean": 4.47, "random-5": 4.18, "random-10": 3.80, "random-20": 2.74, "random-30": 1.86,
                 "burst-10": 2.59, "burst-20": 1.73},
}
TITLES = {
    "clean": "no loss", "random-5": "5 % lost at random", "random-10": "10 % lost at random",
    "random-20": "20 % lost at random", "random-30": "30 % lost at random",
    "burst-10": "10 % lost in bursts", "burst-20": "20 % lost in bursts", "jitter-60": "jitter 0 to 60 ms",
    "g711-clean": "G.711, no loss", "g711-10": "G.711, 10 % lost", "g711-20": "G.711, 20 % lost",
}


def mean(values):
    values = [value for value in values if value is not None]
    return sum(values) / len(values) if values else None


def quantile(values, share):
    """Between the two neighbours in order, as numpy's default."""
    if not values:
        return None
    ordered = sorted(values)
    at = share * (len(ordered) - 1)
    low = math.floor(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (at - low) * (ordered[high] - ordered[low])


def summary(values):
    return {"mean": mean(values), "median": quantile(values, 0.5), "q05": quantile(values, 0.05), "count": len(values)}


def _cell(results):
    """The figures of one phone in one cell, from its calls."""
    pieces = [piece for result in results for side in result.get("scores", []) for piece in side]
    ways = [result["box"][way] for result in results if "box" in result for way in ("a_to_b", "b_to_a")]
    return {
        "pesq": summary([piece["pesq"] for piece in pieces]),
        "pesq_after_first_piece": summary([piece["pesq"] for piece in pieces if piece["piece"] > 0]),
        "estoi": summary([piece["estoi"] for piece in pieces]),
        "delay_ms": quantile([piece["delay_ms"] for piece in pieces], 0.5),
        "rtp_payload_kbps": mean(way["rtp_payload_kbps"] for way in ways),
        "ip_kbps": mean(way["ip_kbps"] for way in ways),
        "lost_share": mean(way["loss"] for way in ways),
        "mean_burst": mean(way["mean_burst"] for way in ways),
        "cpu_percent": mean(figure for result in results for figure in result.get("cpu_percent", [])),
        "memory_mb": max((figure for result in results for figure in result.get("memory_mb", [])), default=None),
        "dtls": any(way["packets"].get("dtls", 0) for way in ways),
        "box_missed_share": max((result["box"]["late"]["missed_share"] for result in results if "box" in result), default=None),
        "sender_unsteadiness_ms": max((way["sender_unsteadiness_ms"] or 0 for way in ways), default=None),
        "troubles": [result["trouble"] for result in results if result["trouble"]],
    }


def summarize(results, crowds, ears, conditions, busy):
    cells = {}
    for cell in CELLS:
        for program in dict.fromkeys(result["program"] for result in results):
            mine = [result for result in results if (result["cell"], result["program"]) == (cell, program)]
            if mine:
                cells.setdefault(cell, {})[program] = _cell(mine)
    return {"schema": 1, "conditions": conditions, "machine_busy_percent": busy, "wanted": WANTED,
            "elsewhere": ELSEWHERE, "cells": cells, "cost": crowds, "mouth_to_ear": ears}


def troubles(whole):
    """What makes a figure doubtful, in words."""
    found = []
    for cell, programs in whole["cells"].items():
        for program, figures in programs.items():
            where = f"{cell}, {program}"
            for trouble in figures["troubles"]:
                found.append(f"{where}: no figure: {trouble}")
            if (figures["box_missed_share"] or 0) > LATE:
                found.append(f"{where}: the machine was too busy: the box was late {100 * figures['box_missed_share']:.1f} % of the time")
            if (figures["sender_unsteadiness_ms"] or 0) > UNSTEADY:
                found.append(f"{where}: a phone sent up to {figures['sender_unsteadiness_ms']:.0f} ms off its beat (99th percentile)")
    found += [f"mouth to ear: no figure: {row['trouble']}" for row in whole["mouth_to_ear"] if "trouble" in row]
    for crowd in whole["cost"]:
        if crowd["trouble"]:
            found.append(f"{crowd['calls']} calls of one {crowd['program']}: no figure: {crowd['trouble']}")
        clean = whole["cells"].get("clean", {}).get(crowd["program"], {}).get("pesq", {}).get("median")
        if clean and crowd.get("pesq") and crowd["pesq"]["median"] < clean - CROWDED:
            # A phone that gets too little of a core also uses too little of it.
            found.append(f"{crowd['calls']} calls of one {crowd['program']}: they sound worse than one ({show(crowd['pesq']['median'])}"
                         f" for {show(clean)}): the phone or the machine could not keep up, and its CPU figure is too low")
    return found


def show(value, digits=2):
    return "-" if value is None else f"{value:.{digits}f}"


def line_of(result):
    """One call, for whoever waits."""
    if result["trouble"]:
        return f"{result['cell']}, {result['program']}: {result['trouble']}"
    figures = _cell([result])
    return (f"{result['cell']}, {result['program']}: PESQ {show(figures['pesq']['median'])}"
            f" (5 % below {show(figures['pesq']['q05'])}), ESTOI {show(figures['estoi']['mean'])},"
            f" {show(figures['rtp_payload_kbps'], 1)} kbit/s, CPU {show(figures['cpu_percent'], 1)} %")


HEADINGS = ["cell", "phone", "median", "mean", "5 %", "scores", "without first 8 s", "ESTOI",
            "behind, ms", "kbit/s RTP", "kbit/s IP", "lost", "wanted"]


def rows(whole):
    for cell, programs in whole["cells"].items():
        for program, figures in programs.items():
            pesq = figures["pesq"]
            yield [cell, program, show(pesq["median"]), show(pesq["mean"]), show(pesq["q05"]), str(pesq["count"]),
                   show(figures["pesq_after_first_piece"]["median"]), show(figures["estoi"]["mean"], 3),
                   show(figures["delay_ms"], 0), show(figures["rtp_payload_kbps"], 1), show(figures["ip_kbps"], 1),
                   f"{100 * figures['lost_share']:.1f} %" if figures["lost_share"] is not None else "-",
                   show(_wanted(whole, cell)) if program == "ringtrue" else ""]


def _wanted(whole, cell):
    if cell == "jitter-60":
        clean = whole["cells"].get("clean", {}).get("ringtrue")
        return clean["pesq"]["median"] if clean else None
    return WANTED[cell]


def cost_rows(whole):
    for crowd in whole["cost"]:
        alone = whole["cells"].get("clean", {}).get(crowd["program"], {})
        heard = crowd.get("pesq", {})
        yield [crowd["program"], show(crowd.get("cpu_percent_per_call")), show(crowd.get("memory_mb"), 1),
               show(alone.get("cpu_percent")), show(alone.get("memory_mb"), 1), show(heard.get("median"))]


COST_HEADINGS = ["phone", "CPU % per call, 30 calls", "MB, 30 calls", "CPU %, one call", "MB, one call", "PESQ among 30"]


def ear_rows(whole):
    for row in whole["mouth_to_ear"]:
        if "trouble" in row:
            continue
        yield [row["phone"], str(row["ptime"] or "-"), show(row.get("median_ms"), 1), show(row.get("p95_ms"), 1),
               show(row.get("most_ms"), 1), str(row.get("steps", "-")), str(row.get("missed", "-"))]


EAR_HEADINGS = ["mouth to ear", "packets, ms", "median, ms", "95 %", "most", "steps", "missed"]


def _aligned(headings, lines):
    lines = [headings, *lines]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(line, widths)).rstrip() for line in lines)


def table(whole):
    parts = []
    if whole["cells"]:
        parts.append(_aligned(HEADINGS, list(rows(whole))))
    if whole["cost"]:
        parts.append(_aligned(COST_HEADINGS, list(cost_rows(whole))))
    if whole["mouth_to_ear"]:
        parts.append(_aligned(EAR_HEADINGS, list(ear_rows(whole))))
    parts.append(f"the machine was busy {whole['machine_busy_percent']} % of the time of all its cores")
    return "\n\n".join(parts)


def _markdown(headings, lines):
    out = ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
    return "\n".join(out + ["| " + " | ".join(line) + " |" for line in lines])


def _cells_table(whole):
    headings = ["", *ELSEWHERE, "baresip", "Ringtrue", "5 %", "ESTOI", "wanted"]
    lines = []
    for cell, programs in whole["cells"].items():
        ours, other = programs["ringtrue"], programs["baresip"]
        lines.append([TITLES[cell], *[show(marks.get(cell)) for marks in ELSEWHERE.values()], show(other["pesq"]["median"]),
                      f"**{show(ours['pesq']['median'])}**", show(ours["pesq"]["q05"]), show(ours["estoi"]["mean"], 3),
                      show(_wanted(whole, cell))])
    return _markdown(headings, lines)


def write_docs(whole):
    plots = DOCS / "sound"
    plots.mkdir(exist_ok=True)
    _plot(whole, plots / "random-loss.svg", "lost at random, %", {0: "clean", 5: "random-5", 10: "random-10",
                                                                   20: "random-20", 30: "random-30"})
    _plot(whole, plots / "bursts.svg", "lost in bursts of 4 packets, %", {0: "clean", 10: "burst-10", 20: "burst-20"})
    template = (pathlib.Path(__file__).parent / "sound.md.in").read_text()
    conditions = "\n".join(f"- {name}: {value}" for name, value in whole["conditions"].items()
                           if value and name != "commit")
    doubts = troubles(whole)
    parts = {
        "CELLS": _cells_table(whole),
        "ALL": _markdown(HEADINGS, list(rows(whole))),
        "EAR": _markdown(EAR_HEADINGS, list(ear_rows(whole))) if whole["mouth_to_ear"] else "Not measured in this run.",
        "COST": _markdown(COST_HEADINGS, list(cost_rows(whole))),
        "CONDITIONS": conditions + f"\n- all cores together were busy {whole['machine_busy_percent']} % of the time",
        "DOUBTS": "\n".join(f"- {doubt}" for doubt in doubts) if doubts else "None: no box and no phone was late.",
    }
    for name, text in parts.items():
        template = template.replace(f"@{name}@", text)
    (DOCS / "sound.md").write_text(template)


def _plot(whole, path, label, cells):
    import matplotlib
    matplotlib.use("Agg")
    # The same figures give the same file, and text stays text.
    matplotlib.rcParams.update({"svg.hashsalt": "ringtrue", "svg.fonttype": "none", "font.size": 9})
    from matplotlib import pyplot
    figure, axes = pyplot.subplots(figsize=(5.6, 3.4))
    for program, colour, name in (("ringtrue", "#0b6e4f", "Ringtrue"), ("baresip", "#c8553d", "baresip")):
        points = [(x, whole["cells"][cell][program]["pesq"]) for x, cell in cells.items()]
        axes.plot([x for x, _ in points], [pesq["median"] for _, pesq in points], marker="o", color=colour, label=name)
        axes.fill_between([x for x, _ in points], [pesq["q05"] for _, pesq in points],
                          [pesq["median"] for _, pesq in points], color=colour, alpha=0.12, linewidth=0)
    for (name, marks), style in zip(ELSEWHERE.items(), ("--", ":")):
        axes.plot(list(cells), [marks[cell] for cell in cells.values()], style, color="#555555",
                  label=f"{name}, measured elsewhere")
    axes.scatter(list(cells), [WANTED[cell] for cell in cells.values()], marker="_", s=160, color="black", label="wanted")
    axes.set_xlabel(label)
    axes.set_ylabel("PESQ, wide band")
    axes.set_ylim(1, 4.7)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
