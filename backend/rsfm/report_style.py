"""How a report looks: on the screen, in the dark, and on A4 paper."""

STYLE = """:root{color-scheme:light dark}
body{font:15px/1.5 system-ui,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;max-width:62em;margin:2em auto;padding:0 1em;
color:#1a1a1a;background:#fff;overflow-wrap:break-word}
h1{margin-bottom:0}h2{margin-top:2em;border-bottom:1px solid #ccc}h3{margin-bottom:.2em}
table{border-collapse:collapse;margin:.5em 0 1.5em}td,th{border:1px solid #ccc;padding:.25em .7em;text-align:left;
vertical-align:top;font-weight:normal}tr:first-child>th,th:first-child{background:#f2f2f2}
td.number{text-align:right;font-variant-numeric:tabular-nums}.wide{overflow-x:auto}
p.note{background:#eef5fb;border-left:4px solid #0072b2;padding:.5em 1em}
p.warning,p.error{background:#fdf3e3;border-left:4px solid #e69f00;padding:.5em 1em}
figure{margin:1em 0;break-inside:avoid;page-break-inside:avoid}figcaption{font-size:.9em}
svg.map{max-width:100%;display:block}.figures figure{max-width:400px}svg.curve{width:100%;max-width:44em;display:block}
svg .ink{fill:#1a1a1a}svg .grid{stroke:#ccc}svg .axis{fill:#1a1a1a;font-size:12px}
table.pictures td,table.pictures th{border:0;padding:.2em}table.pictures img{width:9.5em;display:block}
.squares{image-rendering:pixelated;image-rendering:crisp-edges;image-rendering:pixelated}
div.figures figure{display:inline-block;vertical-align:top;margin:.5em 1em .5em 0}div.figures img{width:18em}
figure.dates{display:inline-block;vertical-align:top;width:27.5em;max-width:100%;margin:.5em 1.2em 1em 0}
.dates div{display:flex;gap:.5em}.dates svg,.dates .absent{flex:1;min-width:0}.dates svg text{font-size:12px}
td.state{white-space:nowrap}td.warning{background:#fdf3e3}td.unknown{background:#f2f2f2}
.absent{color:#777;font-style:italic}pre{background:#f7f7f7;padding:1em;white-space:pre-wrap;word-break:break-word}
th.short{white-space:nowrap}th.long{word-break:break-all;min-width:14em}
@media (prefers-color-scheme:dark){body{color:#e6e6e6;background:#1b1b1b}td,th,h2{border-color:#555}
tr:first-child>th,th:first-child,pre{background:#2a2a2a}p.note{background:#14303f}
p.warning,p.error,td.warning{background:#3b2e14}td.unknown{background:#2a2a2a}
svg .ink,svg .axis{fill:#e6e6e6}svg .grid{stroke:#555}a{color:#6cb6ff}}
@media print{@page{size:A4;margin:15mm}body{max-width:none;margin:0;font-size:10pt;color:#000;background:#fff}
h2,h3{break-after:avoid;page-break-after:avoid}tr,svg{break-inside:avoid;page-break-inside:avoid}
table.pictures img{width:26mm}}"""
