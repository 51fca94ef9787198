"""What does the dashboard look like? Streamlit's theme options for light and dark, and the little CSS they can't say.

Colours are paired for a contrast of at least 4.5 to 1 with the background they stand on. A colour never carries a
meaning alone: each status is written out too.
"""

from __future__ import annotations

_SHARED = {
    "baseRadius": "0.5rem",
    "showWidgetBorder": "true",
    "baseFontSize": "15",
    "headingFontWeights": "600",
    "headingFontSizes": "1.9rem,1.5rem,1.25rem,1.1rem,1rem,0.9rem",
    "codeFontSize": "0.82rem",
    "dataframeBorderColor": "rgba(128, 134, 152, 0.25)",
    "borderColor": "rgba(128, 134, 152, 0.30)",
}
_LIGHT = {
    "primaryColor": "#3b5bdb",
    "backgroundColor": "#ffffff",
    "secondaryBackgroundColor": "#f4f6fa",
    "textColor": "#1c2333",
    "codeTextColor": "#1c2333",
    "greenBackgroundColor": "#d3f4dc",
    "blueBackgroundColor": "#dbe4ff",
    "redBackgroundColor": "#ffe0e0",
    "orangeBackgroundColor": "#ffe8cc",
    "violetBackgroundColor": "#e8dfff",
    "grayBackgroundColor": "#e6e9ef",
    "sidebar.backgroundColor": "#f4f6fa",
    "sidebar.secondaryBackgroundColor": "#e6eaf2",
}
_DARK = {
    "primaryColor": "#4c6ef5",
    "linkColor": "#91a7ff",
    "backgroundColor": "#11151d",
    "secondaryBackgroundColor": "#1a202c",
    "textColor": "#e4e8f1",
    "codeTextColor": "#e4e8f1",
    "sidebar.backgroundColor": "#0c1017",
    "sidebar.secondaryBackgroundColor": "#1f2734",
}
OPTIONS = {
    **{f"theme.{name}": value for name, value in _SHARED.items()},
    **{f"theme.light.{name}": value for name, value in _LIGHT.items()},
    **{f"theme.dark.{name}": value for name, value in _DARK.items()},
}

# Live parts run every two seconds: the running sign and the fading of old elements would never rest.
CSS = """<style>
[data-testid="stStatusWidget"], [data-testid="stDecoration"] { display: none; }
[data-stale="true"] { opacity: 1 !important; transition: none !important; }
[data-testid="stHeader"] { display: none; }
[data-testid="stMainBlockContainer"] { padding: 1rem 2.5rem 3rem; max-width: 1600px; }
@media (max-width: 800px) { [data-testid="stMainBlockContainer"] { padding: 0.7rem 1rem 2rem; } }
.st-key-header { border-bottom: 1px solid rgba(128, 134, 152, 0.25); padding-bottom: 0.6rem; }
[data-testid="stLayoutWrapper"]:has(> .st-key-sign_in) { align-self: center; margin: 12vh auto 0; width: auto; }
.casare-tally { display: flex; flex-wrap: wrap; gap: 0.4rem 1.6rem; margin: 0 0 0.25rem; }
.casare-tally div { display: flex; align-items: baseline; gap: 0.4rem; white-space: nowrap; }
.casare-tally b { font-size: 1.35rem; font-weight: 600; font-variant-numeric: tabular-nums; }
.casare-tally i { width: 0.55rem; height: 0.55rem; border-radius: 50%; align-self: center; }
.casare-facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(12rem, 1fr)); gap: 0.7rem 1.5rem;
  margin: 0 !important; padding: 0 !important; }
.casare-facts dt { font-size: 0.8rem; opacity: 0.72; }
.casare-facts dt, .casare-facts dd { margin: 0 !important; padding: 0; }
.casare-facts dd { overflow-wrap: anywhere; }
.casare-table { width: 100%; border-collapse: collapse; font-size: 0.92rem; }
.casare-table th { text-align: left; font-weight: 500; opacity: 0.72; font-size: 0.8rem; }
.casare-table th, .casare-table td { padding: 0.3rem 1rem 0.3rem 0; border-bottom: 1px solid rgba(128, 134, 152, 0.25);
  vertical-align: top; }
.casare-wide { overflow-x: auto; }
/* Reversed, so that it opens at its end, follows what is added, and stays where somebody scrolled to. */
.st-key-log { flex-direction: column-reverse; justify-content: flex-start; max-height: 420px; overflow: auto; }
</style>"""
