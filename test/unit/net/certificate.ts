/**
 * A self-signed certificate for netpopcorn.test and its key, for tests only. Made with
 * `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 36500 -subj /CN=netpopcorn.test
 * -addext subjectAltName=DNS:netpopcorn.test`.
 */
export const certificate = {
  key: `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgH11sxZKIeXGli1Lv
Bt/hX+TBA5itnbC9gfK88mkU7wShRANCAAT1CgN1IO5iTq0ASZn/jmm+Ns/yvspG
ExwXJSaPAZg9yhajviXDeyfU8bR79/LVXHEN3TsPfayIKOAWZKH5ARcr
-----END PRIVATE KEY-----
`,
  cert: `-----BEGIN CERTIFICATE-----
MIIBpjCCAU2gAwIBAgIUO3cTAklAUMhIPG+cSwQuWftWKIAwCgYIKoZIzj0EAwIw
GjEYMBYGA1UEAwwPbmV0cG9wY29ybi50ZXN0MCAXDTI2MTEyMjE4MTcxNloYDzIx
MjYxMDI5MTgxNzE2WjAaMRgwFgYDVQQDDA9uZXRwb3Bjb3JuLnRlc3QwWTATBgcq
hkjOPQIBBggqhkjOPQMBBwNCAAT1CgN1IO5iTq0ASZn/jmm+Ns/yvspGExwXJSaP
AZg9yhajviXDeyfU8bR79/LVXHEN3TsPfayIKOAWZKH5ARcro28wbTAdBgNVHQ4E
FgQUjfcgkhTE5t5zx0+Kl7ATAdHcswEwHwYDVR0jBBgwFoAUjfcgkhTE5t5zx0+K
l7ATAdHcswEwDwYDVR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgg9uZXRwb3Bjb3Ju
LnRlc3QwCgYIKoZIzj0EAwIDRwAwRAIgapPLm95dbpb2ET3uPZyfEL+vSEXrOv2a
y20il9P8ICECIEiF86N4BLkCTqvmEY6YOmGOx4vf8MSzsDvtFo+/bSeo
-----END CERTIFICATE-----
`,
} as const;
