// Shows the OpenAPI document. Requests go to the server of this page, with the token of the user that is
// signed in.
const { user, token } = JSON.parse(document.getElementById('settings').textContent)

document.getElementById('account').textContent = token ? `Signed in as ${user}` : 'Not signed in: paste a token below'
for (const link of document.querySelectorAll('.account a')) {
  if (link.getAttribute('href') === `/docs?user=${user}`) link.setAttribute('aria-current', 'page')
}

Scalar.createApiReference('#app', {
  url: '/openapi.json',
  servers: [{ url: location.origin, description: 'This machine' }],
  authentication: {
    preferredSecurityScheme: 'accessToken',
    securitySchemes: { accessToken: { token: token ?? '' } },
  },
  defaultHttpClient: { targetKey: 'shell', clientKey: 'curl' },
  documentDownloadType: 'none',
  orderRequiredPropertiesFirst: false,
  orderSchemaPropertiesBy: 'preserve',
  // Turn off every feature that sends requests to another host.
  agent: { disabled: true },
  mcp: { disabled: true },
  hideClientButton: true,
  showDeveloperTools: 'never',
  showToolbar: 'never',
  telemetry: false,
  withDefaultFonts: false,
})
