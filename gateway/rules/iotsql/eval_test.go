package iotsql_test

import (
	"testing"
	"time"

	"tidegate/gateway/mqtt"
	"tidegate/gateway/rules/iotsql"
)

var testTime = time.Date(2024, 6, 10, 14, 56, 55, 926_000_000, time.UTC)

func input(topic, payload string) *iotsql.Input {
	return &iotsql.Input{Topic: topic, Payload: []byte(payload), Context: iotsql.Context{
		AccountID: "123456789012", ClientID: "dev-1", Principal: "cert-1", MQTT: true,
		Now: func() time.Time { return testTime },
		Props: &mqtt.Props{ContentType: "text/x", ResponseTopic: "re/ply", Correlation: []byte{1, 2, 3}, HasFormat: true, Format: 1,
			User: []mqtt.UserProp{{Key: "k", Value: "v1"}, {Key: "o", Value: "x"}, {Key: "k", Value: "v2"}}},
	}}
}

// fields is the payload of the expressions below.
const fields = `{"i":7,"d":2.5,"w":10.0,"neg":-3.7,"s":"text","n":"12.5","t":true,"f":false,"nul":null,"a":[1,2,3],` +
	`"o":{"k":1,"my-key":[true]},"e":[{"n":"x","v":1},{"n":"y","v":2.5},{"n":"z"}],"uni":"naïve 😀","empty":"","big":1234567890123456789012345678901234,` +
	`"dup":1,"dup":2,"esc":"a\"b\\c\n\u00e9\ud83d\ude00","deep":{"a":{"b":{"c":5}}},"value":42,"end":1,"Case":"U","eo":{},"ea":[],"e1":1E3,"long":0.1234567890123456789012345678901234567890}`

// expressions and their values as JSON in version 2016-03-23; empty is Undefined.
var expressions = []struct{ expr, want string }{
	// literals and paths
	{`1`, `1`}, {`-1`, `-1`}, {`- - 1`, `1`}, {`1.50`, `1.50`}, {`1E3`, `1000`}, {`-2.411E2`, `-241.1`}, {`1e-7`, `1E-7`}, {`0.000001`, `0.000001`},
	{`'it''s'`, `"it's"`}, {`"say ""x"""`, `"say \"x\""`}, {`'a"b'`, `"a\"b"`}, {`TRUE`, `true`}, {`False`, `false`}, {`null`, `null`},
	{`i`, `7`}, {`w`, `10`}, {`e1`, `1000`}, {`o.k`, `1`}, {`o.nope`, ``}, {`nope`, ``}, {`i.x`, ``}, {`deep.a.b.c`, `5`}, {`deep . a . b`, `{"c":5}`},
	{`dup`, `2`}, {`esc`, `"a\"b\\c\né😀"`}, {`Case`, `"U"`}, {`case`, ``}, {`end`, `1`}, {`nul`, `null`}, {`nul.x`, ``}, {`(deep.a).b.c`, `5`}, {`value`, `42`},
	{`long`, `0.1234567890123456789012345678901234567890`},
	{`{'a': i, b: nope, "c": {}}`, `{"a":7,"c":{}}`}, {`[i, nope, nul, [s]]`, `[7,null,["text"]]`}, {`{}`, `{}`}, {`[]`, `[]`}, {`{'x': 1, 'x': 2}`, `{"x":2}`},

	// arithmetic
	{`2+3`, `5`}, {`2.5+2.5`, `5`}, {`1.10+1.10`, `2.20`}, {`0.1+0.2`, `0.3`}, {`2-3`, `-1`}, {`4*2.5`, `10`}, {`7/3`, `2`}, {`-7/3`, `-2`}, {`7.0/2`, `3.5`}, {`w/4`, `2`},
	{`7/2.0`, `3.5`}, {`1/3.0`, `0.3333333333333333333333333333333333`}, {`2/3.0`, `0.6666666666666666666666666666666667`}, {`1/0`, ``}, {`1.0/0`, ``}, {`1%0`, ``}, {`1/'0'`, ``}, {`0/5`, `0`}, {`0.0/5`, `0`},
	{`7%3`, `1`}, {`-7%3`, `-1`}, {`7%-3`, `1`}, {`8.5%2`, `0.5`}, {`'9'/2`, `4.5`}, {`'9'-2`, `7`}, {`'9'*'2'`, `18`}, {`'x'*2`, ``}, {`t*2`, ``}, {`nul*2`, ``}, {`nope-1`, ``}, {`a-1`, ``}, {`o/1`, ``},
	{`2+3*4`, `14`}, {`(2+3)*4`, `20`}, {`10-4-3`, `3`}, {`100/10/5`, `2`}, {`2*3%4`, `2`}, {`-i+1`, `-6`}, {`-n`, `-12.5`}, {`-s`, ``}, {`-t`, ``}, {`-(1+2)`, `-3`}, {`1 - -1`, `2`}, {`1--1`, `2`},
	{`9007199254740993+0`, `9007199254740993`}, {`9223372036854775807+1`, `9223372036854775808`}, {`-9223372036854775807-2`, `-9223372036854775809`}, {`9223372036854775807*9223372036854775807`, `8.507059173023461584739690778423250E+37`},
	{`big+1`, `1234567890123456789012345678901235`}, {`big*10`, `1.234567890123456789012345678901234E+34`}, {`9999999999999999999999999999999999+1`, `1.000000000000000000000000000000000E+34`}, {`9.99E999*10`, ``}, {`1E-999/10`, ``}, {`1E999+1`, `1.000000000000000000000000000000000E+999`}, {`1E500*1E-500`, `1`}, {`1E999-1E-999`, `1.000000000000000000000000000000000E+999`},
	{`'a'+'b'`, `"ab"`}, {`'a'+1`, `"a1"`}, {`1+'a'`, `"1a"`}, {`'1'+'2'`, `"12"`}, {`'1'+2`, `"12"`}, {`'x'+1.50`, `"x1.50"`}, {`'x'+w`, `"x10"`}, {`'x'+t`, `"xtrue"`}, {`'x'+a`, `"x[1,2,3]"`}, {`o+'!'`, `"{\"k\":1,\"my-key\":[true]}!"`},
	{`'x'+nul`, ``}, {`'x'+nope`, ``}, {`t+1`, ``}, {`a+1`, ``}, {`nul+1`, ``}, {`t+f`, ``}, {`a+a`, ``}, {`1+2+'a'`, `"3a"`}, {`'a'+1+2`, `"a12"`}, {`e1+'x'`, `"1000x"`},

	// comparison
	{`5>3`, `true`}, {`5>=5`, `true`}, {`5<5`, `false`}, {`'10'>9`, `true`}, {`9<'10'`, `true`}, {`'10'>'9'`, `true`}, {`'a'<'b'`, ``}, {`t>1`, ``}, {`a>1`, ``}, {`nul<1`, ``}, {`nope<1`, ``}, {`1<nope`, ``}, {`'5.'>1`, ``}, {`'+5'>1`, ``}, {`'.5'<1`, ``}, {`'0x10'>1`, ``}, {`' 5'>1`, ``}, {`'5E+1'>1`, ``}, {`'5E-1'<1`, `true`}, {`'5e1'>49`, `true`}, {`'007'>6`, `true`}, {`'-0'>=0`, `true`}, {`''<1`, ``},
	{`1E999>1E998`, `true`}, {`-1E999<-1E998`, `true`}, {`1E-999>0`, `true`}, {`0.1<0.10000000000000001`, `true`}, {`9007199254740993>9007199254740992`, `true`}, {`-5<3`, `true`},
	{`5=5.0`, `true`}, {`5=5.000`, `true`}, {`i=7`, `true`}, {`'a'='a'`, `true`}, {`'a'='A'`, `false`}, {`'5'=5`, `false`}, {`5='5'`, `false`}, {`t=true`, `true`}, {`t='true'`, `false`}, {`1=true`, `false`}, {`nul=null`, `true`}, {`nul=0`, `false`}, {`nope=1`, ``}, {`1=nope`, ``}, {`nope=nope`, ``}, {`nope=null`, ``},
	{`[1,2]=[1,2.0]`, `true`}, {`[1,2]=[2,1]`, `false`}, {`a=[1,2,3]`, `true`}, {`a=[1,2]`, `false`}, {`o={'my-key':[true],'k':1}`, `true`}, {`o={'k':1}`, `false`}, {`o=a`, `false`}, {`eo={}`, `true`}, {`ea=[]`, `true`}, {`[nul]=[null]`, `true`}, {`[1]=['1']`, `false`},
	{`5<>6`, `true`}, {`5!=6`, `true`}, {`5<>5.0`, `false`}, {`5<>'5'`, `true`}, {`nul<>null`, `false`}, {`nul<>1`, `true`}, {`nope<>1`, ``}, {`1<>nope`, ``}, {`a<>[1,2,3]`, `false`}, {`o<>a`, `true`},
	{`3 IN a`, `true`}, {`4 in a`, `false`}, {`'3' in a`, `false`}, {`3.0 IN a`, `true`}, {`[1] IN [[1],[2]]`, `true`}, {`1 in nope`, ``}, {`1 in s`, ``}, {`1 IN o`, ``}, {`nope in a`, ``}, {`nul in [null]`, `true`}, {`NOT 3 IN a`, `false`}, {`1+2 IN a`, `true`},

	// logic
	{`true AND true`, `true`}, {`true AND false`, `false`}, {`false AND nope`, ``}, {`false AND 5`, ``}, {`true OR nope`, ``}, {`nope OR true`, ``}, {`true OR 1`, ``}, {`false OR true`, `true`}, {`'TRUE' AND 'true'`, `true`}, {`'yes' AND true`, ``}, {`'False' OR f`, `false`}, {`NOT t`, `false`}, {`NOT 'false'`, `true`}, {`NOT s`, ``}, {`NOT nul`, ``}, {`NOT nope`, ``}, {`NOT NOT t`, `true`}, {`NOT 3 > 5`, `true`}, {`not t or t`, `true`},
	{`true OR true AND false`, `true`}, {`(true OR true) AND false`, `false`}, {`1 > 2 OR 3 > 2 AND 2 > 1`, `true`}, {`i > 5 AND d < 3 AND s = 'text'`, `true`}, {`nul AND true`, ``},

	// CASE
	{`CASE i WHEN 7 THEN 'seven' END`, `"seven"`}, {`CASE i WHEN 7.0 THEN 'seven' END`, `"seven"`}, {`CASE i WHEN '7' THEN 'seven' ELSE 'no' END`, `"no"`}, {`CASE i WHEN 1 THEN 'x' END`, ``}, {`CASE nope WHEN 1 THEN 1 ELSE 2 END`, ``}, {`CASE nul WHEN null THEN 'nil' ELSE 'no' END`, `"nil"`}, {`CASE i WHEN nope THEN 1 WHEN 7 THEN 2 END`, `2`}, {`CASE i WHEN 7 THEN nope ELSE 1 END`, ``}, {`case i+1 when 8 then case s when 'text' then 'in' end else 0 end`, `"in"`}, {`1 + CASE t WHEN true THEN 2 END * 3`, `7`}, {`CASE a WHEN [1,2,3] THEN 'arr' END`, `"arr"`}, {`CASE i > 5 WHEN true THEN 'hot' END`, `"hot"`},

	// cast
	{`cast(7 AS Decimal)`, `7`}, {`cast(2.9 as Int)`, `2`}, {`cast(-2.1 as Int)`, `-3`}, {`cast(t as Int)`, `1`}, {`cast(f as double)`, `0`}, {`cast('12.5' as Integer)`, `12`}, {`cast('x' as Int)`, ``}, {`cast(0 as Bool)`, `false`}, {`cast(0.0 as Boolean)`, `false`}, {`cast(-1 as Boolean)`, `true`}, {`cast('TRUE' as Boolean)`, `true`}, {`cast('1' as Boolean)`, ``}, {`cast(a as Boolean)`, ``}, {`cast(12.50 as String)`, `"12.50"`}, {`cast(w as Text)`, `"10"`}, {`cast(t as Varchar)`, `"true"`}, {`cast('s' as ntext)`, `"s"`}, {`cast(a as Nvarchar)`, `"[1,2,3]"`}, {`cast(nul as String)`, ``}, {`cast(nope as String)`, ``}, {`cast(nul as Int)`, ``}, {`cast('1e3' as Int)`, `1000`}, {`cast('5' as Decimal)/2`, `2.5`}, {`cast(5 as Double)/2`, `2.5`}, {`cast(5.0 as Int)/2`, `2`},

	// nested queries
	{`(SELECT VALUE n FROM e)`, `["x","y","z"]`}, {`(SELECT VALUE v FROM e)`, `[1,2.5]`}, {`(SELECT n, v FROM e)`, `[{"n":"x","v":1},{"n":"y","v":2.5},{"n":"z"}]`}, {`(SELECT n FROM e WHERE v > 1)`, `[{"n":"y"}]`}, {`(SELECT * FROM e WHERE n = 'z')`, `[{"n":"z"}]`}, {`(SELECT VALUE * FROM a)`, `[1,2,3]`}, {`(SELECT VALUE x FROM a AS x WHERE x > 1)`, `[2,3]`}, {`(SELECT x.n AS name FROM e AS x WHERE x.v = 1)`, `[{"name":"x"}]`}, {`(SELECT VALUE x + i FROM a AS x)`, `[8,9,10]`}, {`(SELECT *, i AS i FROM e WHERE v = 1)`, `[{"n":"x","v":1,"i":7}]`},
	{`(SELECT k FROM o)`, `{"k":1}`}, {`(SELECT VALUE k FROM o)`, `1`}, {`(SELECT VALUE c FROM deep.a.b)`, `5`}, {`(SELECT k FROM o WHERE k > 5)`, ``}, {`(SELECT x FROM i)`, ``}, {`(SELECT x FROM nope)`, ``}, {`(SELECT x FROM s)`, ``}, {`(SELECT nothing FROM e)`, `[{},{},{}]`}, {`(SELECT VALUE n FROM ea)`, `[]`}, {`get((SELECT v FROM e WHERE n='y'),0).v`, `2.5`}, {`(SELECT (SELECT VALUE y FROM a AS y WHERE y > x.v) AS above FROM e AS x WHERE x.v < 2)`, `[{"above":[2,3]}]`}, {`(SELECT VALUE z FROM (SELECT VALUE x FROM a AS x WHERE x > 1) AS z WHERE z < 3)`, `[2]`}, {`(SELECT VALUE x FROM [1,{'k':2}] AS x)`, `[1,{"k":2}]`},
	{`EXISTS(SELECT n FROM e WHERE v > 2)`, `true`}, {`EXISTS (SELECT n FROM e WHERE v > 9)`, `false`}, {`exists(SELECT VALUE x FROM nope)`, `false`}, {`EXISTS(SELECT k FROM o)`, `true`}, {`NOT EXISTS(SELECT n FROM ea)`, `true`},

	// numeric functions
	{`abs(-5)`, `5`}, {`abs('-5.5')`, `5.5`}, {`abs(t)`, ``}, {`abs()`, ``}, {`abs(1,2)`, ``}, {`abs(nul)`, ``}, {`acos(2)`, ``}, {`sqrt(-1)`, ``}, {`ln(0)`, ``}, {`log(-1)`, ``}, {`log(1000)`, `3`}, {`exp(1000)`, ``}, {`sqrt(2)`, `1.4142135623730951`}, {`power(2,5)`, `32`}, {`power('2',0.5)`, `1.4142135623730951`}, {`power(-8, 0.5)`, ``}, {`power(10,20)`, `100000000000000000000`}, {`power(2,-1)`, `0.5`}, {`atan2(1,0)`, `1.5707963267948966`}, {`tanh(0)`, `0`},
	{`mod(8,3)`, `2`}, {`mod(8.5,3)`, `2.5`}, {`remainder(-8,3)`, `-2`}, {`mod(1,0)`, ``}, {`bitand(13,5)`, `5`}, {`bitor(8.9,'5')`, `13`}, {`bitxor(-1,1)`, `-2`}, {`bitnot(13)`, `-14`}, {`bitnot(-14)`, `13`}, {`bitnot(t)`, ``}, {`bitand(big, 1)`, `0`}, {`bitand(-2.5, 7)`, `5`},
	{`ceil(1.2)`, `2`}, {`ceil(-1.2)`, `-1`}, {`floor(-1.2)`, `-2`}, {`floor('7.9')`, `7`}, {`round(2.5)`, `3`}, {`round(-2.5)`, `-3`}, {`round(0.49)`, `0`}, {`round(-0.5)`, `-1`}, {`round(1E-50)`, `0`}, {`ceil(1E-50)`, `1`}, {`floor(-1E-50)`, `-1`}, {`ceil(7)`, `7`}, {`floor(1E20)`, `100000000000000000000`}, {`sign(-0.5)`, `-1`}, {`sign('0')`, `0`}, {`sign(a)`, ``},
	{`trunc(2.3123,2)`, `2.31`}, {`trunc(-2.39,1)`, `-2.3`}, {`trunc(2.00,5)`, `2`}, {`trunc(2.50,5)`, `2.5`}, {`trunc(7,3)`, `7`}, {`trunc(2.3,-3)`, `2`}, {`trunc(0.001,1)`, `0`}, {`trunc(1.23456,'2.9')`, `1.23`}, {`trunc(1.5,nope)`, ``}, {`trunc(120.5,0)`, `120`},
	{`nanvl(1,2)`, `1`}, {`nanvl(nope,2)`, `2`}, {`nanvl(nul,2)`, `2`}, {`nanvl('x',2)`, `"x"`}, {`nanvl(t,2)`, `true`}, {`nanvl(sqrt(-1),2)`, `2`}, {`rand() >= 0 AND rand() < 1`, `true`}, {`rand(1)`, ``},

	// text functions
	{`lower('HeLLo')`, `"hello"`}, {`lower(['HELLO'])`, `"[\"hello\"]"`}, {`upper(s)`, `"TEXT"`}, {`upper('straße')`, `"STRASSE"`}, {`upper(t)`, `"TRUE"`}, {`upper(nul)`, ``}, {"trim(' \t x\t ')", `"x"`}, {"trim('\nx')", `"\nx"`}, {`ltrim(' x ')`, `"x "`}, {`rtrim(' x ')`, `" x"`}, {`trim(12)`, `"12"`}, {`trim(nope)`, ``},
	{`lpad('hello',2)`, `"  hello"`}, {`rpad(1,3)`, `"1   "`}, {`lpad('a',-1)`, `"a"`}, {`lpad('a',2.9)`, `"  a"`}, {`lpad('a','2')`, `"  a"`}, {`lpad('a',t)`, ``}, {`lpad('a',nul)`, ``}, {`length(lpad('a',99999))`, `1001`}, {`length(rpad('a',1E200))`, `1001`},
	{`length('hi')`, `2`}, {`length(uni)`, `7`}, {`numbytes(uni)`, `11`}, {`length(nul)`, ``}, {`length(a)`, `7`}, {`length(w)`, `2`}, {`indexof('abcd','cd')`, `2`}, {`indexof(uni,'😀')`, `6`}, {`indexof('abc','x')`, `-1`}, {`indexof('abc','')`, `0`}, {`indexof('abc',nope)`, ``}, {`indexof(12345,34)`, `2`},
	{`substring('012345',2)`, `"2345"`}, {`substring('012345',2,4)`, `"23"`}, {`substring('012345',-5)`, `"012345"`}, {`substring('012345',4,99)`, `"45"`}, {`substring('012345',4,4)`, `""`}, {`substring('012345',9)`, `""`}, {`substring('012345',1.9,3.9)`, `"12"`}, {`substring(uni,6)`, `"😀"`}, {`substring(uni,2,3)`, `"ï"`}, {`substring(uni,6,99)`, `"😀"`}, {`substring(uni,8,9)`, `""`}, {`substring('abc',nope)`, ``}, {`substring('abc',0,nul)`, ``}, {`substring('abc','1','2')`, `"b"`}, {`substring('abc',-1E247,1E247)`, `"abc"`}, {`substring('abc',-0.5,2)`, `"ab"`}, {`substring(nul,1)`, ``}, {`substring('a')`, ``},
	{`replace('abab','b','x')`, `"axax"`}, {`replace('a.b','.','-')`, `"a-b"`}, {`replace('abc','',0)`, `"0a0b0c0"`}, {`replace('abc','b',nul)`, ``}, {`replace(1212,1,9)`, `"9292"`}, {`startswith('ranger','ran')`, `true`}, {`startswith(12,1)`, `true`}, {`endswith('cat','at')`, `true`}, {`endswith('cat','')`, `true`}, {`endswith('cat',nope)`, ``},
	{`chr(65)`, `"A"`}, {`chr('66.9')`, `"B"`}, {`chr(128)`, ``}, {`chr(-1)`, ``}, {`chr(1E300)`, ``}, {`chr(t)`, ``}, {`chr(0)`, `"\u0000"`},
	{`concat()`, ``}, {`concat(5)`, `5`}, {`concat('a',1,t)`, `"a1true"`}, {`concat(1,2)`, ``}, {`concat('a',nul)`, ``}, {`concat('a',nope)`, ``}, {`concat(a,4,'x')`, `[1,2,3,4,"x"]`}, {`concat(4,a,nope,nul,[5])`, `[4,1,2,3,null,5]`}, {`concat('a',o)`, `"a{\"k\":1,\"my-key\":[true]}"`},
	{`regexp_matches('foobar','o+b')`, `true`}, {`regexp_matches(12,'^1')`, `true`}, {`regexp_matches(nul,'a')`, ``}, {`regexp_matches('a','(')`, ``}, {`regexp_matches('a',nope)`, ``}, {`regexp_substr('abc','x')`, ``}, {`regexp_replace('2020-04-03','(\d+)-(\d+)-(\d+)','$3.$2.$1')`, `"03.04.2020"`}, {`regexp_replace('a','a','$1')`, ``}, {`regexp_replace('abc','(?<x>b)','[${x}]')`, `"a[b]c"`},
	{`md2('hello')`, `"a9046c73e00331af68917d3804f70655"`}, {`md2('')`, `"8350e5a3e24c153df2275c9f80692773"`}, {`md2('12345678901234567890123456789012345678901234567890123456789012345678901234567890')`, `"d5976f79d83d3a0dc9806c3c66f3efd8"`}, {`md5('hello')`, `"5d41402abc4b2a76b9719d911017c592"`}, {`sha1(nope)`, ``}, {`sha256(12)`, `"6b51d431df5d7f141cbececcf79edf3dd861c3b4069f0b11661a3eefacbba918"`},

	// types and collections
	{`isNull(nul)`, `true`}, {`isNull(nope)`, `false`}, {`isNull(1)`, `false`}, {`isUndefined(nope)`, `true`}, {`isUndefined(nul)`, `false`}, {`isUndefined(abs('x'))`, `true`}, {`isnull()`, ``},
	{`get(a,1)`, `2`}, {`get(a,'1')`, `2`}, {`get(a,1.9)`, `2`}, {`get(a,-1)`, ``}, {`get(a,3)`, ``}, {`get(a,t)`, ``}, {`get(s,0)`, `"t"`}, {`get(uni,6)`, `"😀"`}, {`get(s,99)`, ``}, {`get(o,'my-key')`, `[true]`}, {`get(o,0)`, ``}, {`get(o,'x')`, ``}, {`get(i,0)`, ``}, {`get([10,20],1)`, `20`}, {`get({'a':{'b':3}},'a').b`, `3`}, {`get(a,1E30)`, ``}, {`get('',0)`, ``},
	{`transform('enrichArray',{'z':9},e)`, `[{"n":"x","v":1,"z":9},{"n":"y","v":2.5,"z":9},{"n":"z","z":9}]`}, {`transform('x',o,e)`, ``}, {`transform('enrichArray',a,e)`, ``}, {`transform('enrichArray',o,o)`, ``}, {`transform('enrichArray',{'a':1},[5])`, `[5]`}, {`transform('enrichArray',eo,ea)`, `[]`},
	{`encode('hi','base64')`, `"aGk="`}, {`encode(12,'base64')`, `"MTI="`}, {`encode(a,'base64')`, `"WzEsMiwzXQ=="`}, {`encode(nul,'base64')`, ``}, {`encode('hi','hex')`, ``}, {`decode('aGk=','base64')`, `"hi"`}, {`decode('aGk','base64')`, `"hi"`}, {`decode('eyJhIjp7ImIiOjF9fQ==','base64').a.b`, `1`}, {`decode('ODA=','base64') > 50`, `true`}, {`decode('!!','base64')`, `null`}, {`isNull(decode('!!','base64'))`, `true`}, {`decode('aGk=','x')`, ``}, {`decode(nope,'base64')`, ``}, {`decode('','base64')`, `""`}, {`decode('bnVsbA==','base64')`, `null`}, {`decode('/w==','base64')`, `"�"`},

	// context
	{`accountid()`, `"123456789012"`}, {`clientid()`, `"dev-1"`}, {`principal()`, `"cert-1"`}, {`topic()`, `"a/b"`}, {`topic(1)`, `"a"`}, {`topic(2)`, `"b"`}, {`topic('2')`, `"b"`}, {`topic(2.9)`, `"b"`}, {`topic(0)`, ``}, {`topic(3)`, ``}, {`topic(-1)`, ``}, {`topic(t)`, ``}, {`timestamp()`, `1718031415926`}, {`sql_version()`, `"2016-03-23"`}, {`length(newuuid())`, `36`}, {`newuuid() = newuuid()`, `false`}, {`traceid() = traceid()`, `true`}, {`regexp_matches(newuuid(), '^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$')`, `true`},
	{`get_mqtt_property('content_type')`, `"text/x"`}, {`get_mqtt_property('response_topic')`, `"re/ply"`}, {`get_mqtt_property('correlation_data')`, `"AQID"`}, {`get_mqtt_property('format_indicator')`, `"UTF8_DATA"`}, {`get_mqtt_property('x')`, ``}, {`get_mqtt_property(1)`, ``}, {`get_user_properties('k')`, `["v1","v2"]`}, {`get_user_properties('z')`, ``}, {`get_user_properties()`, `[{"k":"v1"},{"o":"x"},{"k":"v2"}]`},

	// time
	{`parse_time("yyyy.MM.dd G 'at' HH:mm:ss z", 100000000, 'America/Belize')`, `"1970.01.01 AD at 21:46:40 CST"`}, {`parse_time('yyyy-MM-dd', 1585903518000)`, `"2020-04-03"`}, {`parse_time('yy M d D w x e E EEEE C Y', 1585903518000)`, `"20 4 3 94 14 2020 5 Fri Friday 20 2020"`}, {`parse_time("hh h KK kk HH a mm ss S SSS SSSSS", 1585872000007)`, `"12 12 00 24 00 AM 00 00 0 007 00700"`}, {`parse_time("Z ZZ ZZZ z", 0, 'Europe/Berlin')`, `"+0100 +01:00 Europe/Berlin CET"`}, {`parse_time('Z ZZ z', 0)`, `"+0000 +00:00 UTC"`}, {`parse_time('HH z', 1593610000000, 'America/Chicago')`, `"08 CDT"`}, {`parse_time('zzzz', 0, 'America/Chicago')`, `"Central Standard Time"`}, {`parse_time('z', 1593610000000, 'America/Sao_Paulo')`, `"BRT"`}, {`parse_time('HH:mm z', 0, '+02:30')`, `"02:30 +02:30"`}, {`parse_time('MMMM MMM MM M', 0)`, `"January Jan 01 1"`},
	{`parse_time("''yy ''''", 0)`, `"'70 ''"`}, {`parse_time('yyyy', '0')`, `"1970"`}, {`parse_time('yyyy', 0.9)`, `"1970"`}, {`parse_time('yyyy G Y', -62198755200000)`, `"-0001 BC 2"`}, {`parse_time('yyyy', t)`, ``}, {`parse_time('yyyy', 1E30)`, ``}, {`parse_time('yyyy', 0, 'Mars/Base')`, ``}, {`parse_time('yyyy', 0, nope)`, ``}, {`parse_time('q', 0)`, ``}, {`parse_time("'x", 0)`, ``}, {`parse_time('', 0)`, `""`}, {`parse_time(s, 0)`, ``}, {`parse_time('yyyy', 0, '')`, ``}, {`parse_time('yyyy', 0, 'Local')`, ``},
	{`time_to_epoch('2020-04-03', 'yyyy-MM-dd')`, `1585872000000`}, {`time_to_epoch('x', 'yyyy-MM-dd')`, ``}, {`time_to_epoch(20200403, 'yyyyMMdd')`, `1585872000000`}, {`time_to_epoch(nul, 'yyyy')`, ``},

	// calls that leave the rule, when nobody answers
	{`aws_lambda('arn', {'a':1})`, ``}, {`get_thing_shadow('t','arn').state`, ``},
}

func TestExpressions(t *testing.T) {
	for _, c := range expressions {
		if got := evalRaw(t, "("+c.expr+")", fields, iotsql.V2016); got != c.want {
			t.Errorf("%s: got %s, want %s", c.expr, got, c.want)
		}
	}
}

// In version 2015-10-08 a decimal without a fraction stays one.
func TestVersion2015(t *testing.T) {
	for _, c := range []struct{ expr, want string }{
		{`w`, `10.0`}, {`w/4`, `2.5`}, {`i/2`, `3`}, {`'x'+w`, `"x10.0"`}, {`2.5+2.5`, `5.0`}, {`cast(t as Int)`, `1`}, {`cast(w as String)`, `"10.0"`}, {`power(2,5)`, `32.0`},
		{`sql_version()`, `"2015-10-08"`}, {`get(o,'k')`, `1`}, {`isNull(nul)`, `true`}, {`3 IN a`, `true`}, {`e1`, `1E+3`}, {`CASE i WHEN 7 THEN 1 END`, `1`}, {`o`, `{"k":1,"my-key":[true]}`},
	} {
		if got := evalRaw(t, c.expr, fields, iotsql.V2015); got != c.want {
			t.Errorf("%s: got %s, want %s", c.expr, got, c.want)
		}
	}
}

func TestContextThatIsMissing(t *testing.T) {
	for expr, want := range map[string]string{
		`clientid()`: `"n/a"`, `principal()`: ``, `accountid()`: ``, `traceid()`: ``, `timestamp()`: ``, `get_mqtt_property('content_type')`: ``, `get_user_properties()`: ``,
	} {
		st, err := iotsql.Parse("SELECT VALUE "+expr, iotsql.V2016)
		if err != nil {
			t.Fatal(err)
		}
		res, err := st.Eval(&iotsql.Input{Topic: "a", Payload: []byte(`{}`)})
		if err != nil || string(res.Payload) != want {
			t.Errorf("%s: got %s, %v, want %s", expr, res.Payload, err, want)
		}
	}
}
