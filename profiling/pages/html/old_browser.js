// A script of its own, before the viewer: a browser too old for the one may not even parse the other.
if (!("DecompressionStream" in window)) {
  const line = document.getElementById("problem");
  line.textContent =
    "This browser is too old to show the timelines: they need DecompressionStream (Chrome 80, Firefox 113, Safari 16.4 or newer).";
  line.hidden = false;
}
