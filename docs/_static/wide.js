// Names in tables may be broken after a "_", a "-", a "." and the like, where a column is narrow; copied, they are whole.
document.addEventListener("DOMContentLoaded", () => {
    for (const text of document.querySelectorAll("table.docutils code .pre, table.docutils code:not(:has(.pre))")) {
        const parts = text.textContent.split(/(?<=\w[_\-.=/:,])(?=\w)/);
        text.replaceChildren(...parts.flatMap((part, index) => (index ? [document.createElement("wbr"), part] : [part])));
    }
});
