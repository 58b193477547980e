/* Elements of the page, made in one expression. */

/* Properties that the element has are set, all others become attributes. */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (key in made) made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

export const byId = (id) => document.getElementById(id);

export function swatch(fill) {
  const made = element("i", { className: "swatch" });
  made.style.background = fill;
  return made;
}
