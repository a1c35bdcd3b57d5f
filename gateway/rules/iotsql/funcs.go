package iotsql

// function is one function of the language. An argument list it cannot take makes it
// Undefined; call sees argument lists of the right length only.
type function struct {
	min, max int
	newer    bool // 2016-03-23 only
	external bool // leaves the rule: External answers it
	call     func(in *Input, args []value) value

	// compile may give an expression of its own for a call it can prepare, or that needs
	// to see the terms; nil: use call.
	compile func(c *compiler, t *term, args []expr) expr
}

const anyNumber = 1 << 20 // of arguments

// functions are all functions by their names in lower case (§6).
var functions = map[string]*function{
	// numeric
	"abs":       {min: 1, max: 1, call: abs},
	"acos":      double(acosF),
	"asin":      double(asinF),
	"atan":      double(atanF),
	"cos":       double(cosF),
	"cosh":      double(coshF),
	"sin":       double(sinF),
	"sinh":      double(sinhF),
	"tan":       double(tanF),
	"tanh":      double(tanhF),
	"exp":       double(expF),
	"sqrt":      double(sqrtF),
	"ln":        double(lnF),
	"log":       double(logF),
	"atan2":     double2(atan2F),
	"power":     double2(powerF),
	"mod":       {min: 2, max: 2, call: modulo},
	"remainder": {min: 2, max: 2, call: modulo},
	"bitand":    {min: 2, max: 2, call: bitwise(bitAnd)},
	"bitor":     {min: 2, max: 2, call: bitwise(bitOr)},
	"bitxor":    {min: 2, max: 2, call: bitwise(bitXor)},
	"bitnot":    {min: 1, max: 1, call: bitNot},
	"ceil":      {min: 1, max: 1, call: toWhole(toCeil)},
	"floor":     {min: 1, max: 1, call: toWhole(toFloor)},
	"round":     {min: 1, max: 1, call: toWhole(toNearest)},
	"sign":      {min: 1, max: 1, call: sign},
	"trunc":     {min: 2, max: 2, call: truncate},
	"nanvl":     {min: 2, max: 2, call: nanvl},
	"rand":      {min: 0, max: 0, call: random},

	// text
	"lower":          {min: 1, max: 1, call: onText(lower)},
	"upper":          {min: 1, max: 1, call: onText(upper)},
	"trim":           {min: 1, max: 1, call: onText(trim)},
	"ltrim":          {min: 1, max: 1, call: onText(ltrim)},
	"rtrim":          {min: 1, max: 1, call: onText(rtrim)},
	"lpad":           {min: 2, max: 2, call: pad(true)},
	"rpad":           {min: 2, max: 2, call: pad(false)},
	"length":         {min: 1, max: 1, newer: true, call: length},
	"numbytes":       {min: 1, max: 1, newer: true, call: numBytes},
	"indexof":        {min: 2, max: 2, newer: true, call: indexOf},
	"substring":      {min: 2, max: 3, call: substring},
	"replace":        {min: 3, max: 3, call: replace},
	"startswith":     {min: 2, max: 2, call: startsWith},
	"endswith":       {min: 2, max: 2, call: endsWith},
	"chr":            {min: 1, max: 1, call: chr},
	"concat":         {min: 0, max: anyNumber, call: concat},
	"regexp_matches": {min: 2, max: 2, compile: regexpMatches},
	"regexp_substr":  {min: 2, max: 2, compile: regexpSubstr},
	"regexp_replace": {min: 3, max: 3, compile: regexpReplace},
	"md2":            {min: 1, max: 1, call: hash(sumMD2)},
	"md5":            {min: 1, max: 1, call: hash(sumMD5)},
	"sha1":           {min: 1, max: 1, call: hash(sumSHA1)},
	"sha224":         {min: 1, max: 1, call: hash(sumSHA224)},
	"sha256":         {min: 1, max: 1, call: hash(sumSHA256)},
	"sha384":         {min: 1, max: 1, call: hash(sumSHA384)},
	"sha512":         {min: 1, max: 1, call: hash(sumSHA512)},

	// type and collection
	"isnull":      {min: 1, max: 1, call: isNull},
	"isundefined": {min: 1, max: 1, newer: true, call: isUndefined},
	"get":         {min: 2, max: 2, call: get},
	"transform":   {min: 3, max: 3, newer: true, call: transform},
	"decode":      {min: 2, max: 6, newer: true, compile: decodeTerm},
	"encode":      {min: 2, max: 2, newer: true, compile: encodeTerm},

	// context
	"accountid":           {min: 0, max: 0, call: accountID},
	"clientid":            {min: 0, max: 0, call: clientID},
	"principal":           {min: 0, max: 0, call: principal},
	"topic":               {min: 0, max: 1, call: topic},
	"timestamp":           {min: 0, max: 0, call: timestamp},
	"traceid":             {min: 0, max: 0, call: traceID},
	"newuuid":             {min: 0, max: 0, call: newUUID},
	"sql_version":         {min: 0, max: 0, compile: sqlVersion},
	"get_mqtt_property":   {min: 1, max: 1, call: mqttProperty},
	"get_user_properties": {min: 0, max: 1, call: userProperties},

	// time
	"parse_time":    {min: 2, max: 3, newer: true, compile: parseTime},
	"time_to_epoch": {min: 2, max: 2, newer: true, compile: timeToEpoch},

	// external
	"aws_lambda":              {min: 2, max: 2, external: true},
	"get_dynamodb":            {min: 4, max: 6, newer: true, external: true},
	"get_thing_shadow":        {min: 2, max: 3, newer: true, external: true},
	"get_secret":              {min: 3, max: 4, newer: true, external: true},
	"get_registry_data":       {min: 3, max: 3, newer: true, external: true},
	"machinelearning_predict": {min: 3, max: 3, external: true},
}
