// Starts Swagger UI on the document of this runner.
"use strict";

const document_url = new URL("../api-spec.json", document.baseURI);
const token = new URLSearchParams(location.search).get("token");
if (token !== null) document_url.searchParams.set("token", token);

SwaggerUIBundle({
  url: document_url.href,
  dom_id: "#swagger-ui",
  deepLinking: true,
  docExpansion: "list",
  filter: true,
  validatorUrl: null,
});
