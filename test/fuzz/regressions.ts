/** Programs (base64) that once failed, with what was wrong. */
export const REGRESSIONS: readonly { readonly what: string; readonly program: string }[] = [
  {
    what: "a window reduced for ECN before there was a flight block: a division by zero",
    program:
      "5KQNfj12CJa2p4PvkYGG9yFUzQ/ACSdgrlH2kbJzKZ5BwLhLPyUcG2XmWExnd+5vCH0pbSWinBSez9cQrBLHygPq/MOd9gu7cNwS" +
      "O/fZwnKVLAq0TiJ3LlKduF0AS99i56utHBu2qNrwNPSI3iQ1tOufaWa6cQ39iJIZA2++lvmyzadU6mvys/aNdxNLzaXkD+oHcX/G" +
      "yuXssPDLiCzXGAY3AHbUtCElrfdTMSnrLrBLVszq6JQmg5rtElBgZUpGc+w5VVkH3mFiGBk5z81YOJPtw8Q3ivxJAofZCP6p7dir" +
      "SfSorLncfvlBA98IQxNRuJTTkH1Ya0FMLJIgjlby4jCQY6RKMuDughIE0A==",
  },
  {
    what: "a probe of the path MTU after the FIN: bytes that nobody has written, and a connection that never ends",
    program:
      "+8RuDosWNZzWJe2yjz2LFqPUMBOdguUWvBuzGhMMOIFVNPnPYukIeRrTNTRDotkex0oIldbTO1rel1kKjaSNG4BOri9HFa0p52zH" +
      "Fjwpfjxlksh26ByzpC13BxbHcKhtZPMtWeIwpb3eyxS6GHJjArm6OosKJCcIpWNSdq9ewTMr78BfuCCRRBDizSxKT9dZ7PITSzxt" +
      "ydZ4UzHc7iNyfiNod6ItyOP770OXcjut0z96fXyho6UyZrQtwDvLBBZFxHgDViPEXHyCLyYPQ1Wt90FhwD56uSqh9I+ZChy2eCF5" +
      "K/A3nEJZB3QjgF9B5gzFryh+4UjhU9NhPWUGqDMW3mrMsKtZ3HQslfHC7jlYu5L3ateS4pJ65g9G2WNFxE4h7qUNOwtUOAVUC0Gc" +
      "xgHJz5CjIaWKrl7v/XtL26JKW0EgOcUldOYMxa/rJmJN4kOYYCc1ZB3+eFrSO61TcdpZS/VyviqbR3I7N/SuO+IcTYf2PXe7Yhff" +
      "J474OVsEfZakYfN1rEceEqmKAGgkJe+MRC8E2VulPr5zt3IMwiisL5aBZWXCdOG4sPu9XFljAqhkyOy89syItPLIbrIRZNOAeAeN" +
      "mNqVk0PIrKdmNR3jnnTMfXovNsYbM7nJUwUz78v7pd5IvSnRSYLBM82pMbNy6f/fqSxKT+4rriy0WNChO9SGw4nXWezyEqn75rWS" +
      "xtzDpj1Pgsk+YN0cApt03ssUumMCubo6iwokJwilY1J2r17BMyvvwF+4EGSZFmeuPNq66dxQMYD0loQsw9EC55pcrv9b4/AWcG5Z" +
      "+eSejIjxj5RjJQfYJbV4yEqQ3dCowZ0e7QlG+6Jywnxc5z/EczZ97XRFKByx+05y4XFj7vR8VQxmgi8m90FhDD56f7kqoVkHdCOA" +
      "X0HmDMWv6yZiTeKaQ5hgJzVkHf54WtI70M9L8UAj0FWk1Vn5ui0G7H5Dmxkv0HwLDjRP/8NcnAkbUpcNIWJ51O6b9YnSnf4wAg/n" +
      "Lf/AfqIgoIIGQsgA7PHIzk/X+b+ItPLIbrIR1XddWb5SDMlf3RjlilOB7cPRAQzOtLbkymsegBKFxjcxZMfx3bBGgKTMXBA61O+V" +
      "i8cFJGgTXyKF5cHcrw==",
  },
  {
    what: "a narrower MTU of the link while connections wait to be accepted: the rest of the accept queue was lost",
    program:
      "AHxaCtNqg+CKG7YJpm7AhGkLEc/U68w/gYQqzjymXcWdB0FvrdAoXmhSeLoAZIQoT6CFCKUMSJcJlgcP68d0fuh+C2OBArgxymqF" +
      "oFq33MpAyu7PWUiw8o9x/h9X9s3ozHv4XSrDa578MytMx1khtdeETLH6KDzYQNOIW6UMP8x1thfnxFwgj8R20ypJp+1WsXSxodW3" +
      "RM8WAJL4pmzU6EGyZ/8+b1se9qcDQV02c128ZrF0saHVt0TPyR9JzOOuzJZRyWIDlSk1l4VwHfB13hJ/BDU+webztu2J5ssb5xvg" +
      "5yer/13tfrLBpItDanYUOGzqb3n1DRKSx7fhWK7nVqS4Ar4Q4h8N6gAq8emqzHIcSdpLaJ0GAbQOxbuN9gjnaje0murZPT9NzLUj" +
      "no2o8uq1jj7tBEIof9MWVWTRUDe7mqHsLL8LfNOvbWLUogO6YGPAEplQBD+qywslCAFiJVVb890pTO8HmCKTCfVU+JR5e54Xh08C" +
      "rIy+oWasOOwCpTIxEHtfug6nCJLHW/PdKanzTO8HmPpMkwc2+WTCWE+682kIN57xMepMlozzm4qqErbLQC83tMVd3hPD6B+kopd6" +
      "cvjnPuOGe26r0ypJpwiSx6KiA3fhMPwb6VCvrAtqWQF5PFPXdMgZqt7tpr4dsVCqwUu0rJC08swZ0F4FnN2ZuAK+qlRk0RxJ2ktq" +
      "nQYBtA7Fu432COdqN7RDvF3NhXBXi1mahou3w9RrmurZPT9NzLUjno2o8vLqtY4+7QRCKH/TFlVk0VA3vLuaoewsv+8LfNOvbWJV" +
      "Z1l/ZkIAAWZZvZJKXODxh2pxtA7FO432COdqN7REU8kortoLMEHkzBQ/Muc9WAdylnqh",
  },
  {
    what: "the same, with two connections left",
    program:
      "AHxaCtNqg+CKG7YJpm7AhGkLEc/U68w/gYQqzjymXcWd/wcHQW+t0CheaFJ4ugBkhChPoIUIpQxIlwmWBw/rx3R+6H4LY4ECuDHK" +
      "aoWgWrfcykDK7s9ZSLDyj3H+H1cHX1VvYapmm6FdKsNrnig82EDs006IW6UMP4LMkXW2F+fEXCCPvGaxdLGh1bdEz8kpNRJ/RQRD" +
      "Xov1Uu3fmfr0ieav0scx6kybqrTFXQjo6rLBpItDe4LNdhQ49Q0Skse34ViuVqQCvhDiHw3qACrpqlRk5XqjzHIcSdpLaJ0GAbQO" +
      "xbuN9gjnaje0murZPT9NzLUjno2o8vLqtY4+7QRCKH/TFruaoewsC3zz3SmpTO8HmCKT0QjOx/pMdsrHvTYJ9brzaQgNhjEoWqhN" +
      "f9VEgu+Z1Udv6U9lJjeA1rdZe6aO2eooieNv6Tee8TEvN7TFXd6k5aZol3py+Oc+qsFLtKyQtPLM0AU3uGq85g==",
  },
];
