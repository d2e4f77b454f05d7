// Shows the document, with calls to the stack that served the page, as the user that it is signed in as.
const { user, token } = JSON.parse(document.getElementById('settings').textContent)

document.getElementById('who').textContent = token ? `Signed in as ${user}` : 'Not signed in: paste a token'
for (const link of document.querySelectorAll('.who a')) {
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
  // Nothing that needs, or asks for, another host.
  agent: { disabled: true },
  mcp: { disabled: true },
  hideClientButton: true,
  showDeveloperTools: 'never',
  showToolbar: 'never',
  telemetry: false,
  withDefaultFonts: false,
})
