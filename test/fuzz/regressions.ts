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
];
