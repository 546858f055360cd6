// Starts Swagger UI on the document of this runner.
"use strict";

SwaggerUIBundle({
  url: new URL("../api-spec.json", document.baseURI).href,
  dom_id: "#swagger-ui",
  deepLinking: true,
  docExpansion: "list",
  filter: true,
  validatorUrl: null,
});
