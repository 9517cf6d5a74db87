// Shows this server's own contract. Nothing is asked of anyone else: no validator, no fonts, no source maps.
window.SwaggerUIBundle({
  url: new URL("openapi.json", document.baseURI).href,
  dom_id: "#page",
  deepLinking: true,
  validatorUrl: null,
  tryItOutEnabled: true,
  presets: [window.SwaggerUIBundle.presets.apis],
});
